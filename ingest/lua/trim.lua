-- Remove entries that are in the table from the head of a stream, and what they count for from the counters.
--
-- KEYS  1 generation   2 stream   3 counters   4 total bytes
-- ARGV  1 generation the entries were read in   2 last stream id to remove
--
-- RETURN entries removed; 0 when there are none left (or the generation is over). Call until it says 0: one call
-- removes some hundred, so that Redis is not kept from serving others.
--
-- What is removed is what is counted, in one step: two drains may trim the same entries.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
local entries = redis.call('XRANGE', KEYS[2], '-', ARGV[2], 'COUNT', 500)
if #entries == 0 then
    return 0
end
local records, bytes = 0, 0
for _, entry in ipairs(entries) do
    local fields = entry[2]
    for at = 1, #fields, 2 do
        if fields[at] == 'n' then
            records = records + tonumber(fields[at + 1])
        elseif fields[at] == 'b' then
            bytes = bytes + #fields[at + 1]
        end
    end
end
local ms, seq = string.match(entries[#entries][1], '(%d+)-(%d+)')
redis.call('XTRIM', KEYS[2], 'MINID', '=', ms .. '-' .. string.format('%.0f', tonumber(seq) + 1))
redis.call('HINCRBY', KEYS[3], 'queued', -records)
redis.call('HINCRBY', KEYS[3], 'bytes', -bytes)
redis.call('DECRBY', KEYS[4], bytes)
return #entries
