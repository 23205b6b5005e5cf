-- Remove the first entries of a stream, which are in the table, and what they count for from the counters.
--
-- KEYS  1 generation   2 stream   3 queued   4 queued bytes   5 total bytes   6 stored by hour   7 trimmed
-- ARGV  1 generation the entries were read in
--       2 first stream id   3 its mark   4 last stream id   5 its mark   (a mark is a trace id, or '' for any)
--       6 entries   7 records   8 bytes   9 the table's position before these entries   10 with them
--       11... hour, records, hour, records, ...
--
-- RETURN entries removed; 0 if the stream is empty or the generation is over; -1 if what the stream holds from its head
--        on is not certain to be these entries: nothing was done, call trim_each.lua
--
-- What is removed is what is counted, in one step, because two drains may trim the same entries. Ids only rise, and
-- entries are only ever removed from the head. So if the first entry is at the head, and the last one is there, then
-- exactly those between were read with them; also in a Redis that was restored from an older copy meanwhile.
-- `trimmed` follows the table only if it was right before: else this Redis has forgotten what a drain has to count.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end

local function is_there(found, id, mark)
    if #found == 0 or found[1][1] ~= id then
        return false
    end
    local fields = found[1][2]
    for at = 1, #fields, 2 do
        if fields[at] == 't' then
            return mark == '' or fields[at + 1] == mark
        end
    end
    return true
end

local head = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
if #head == 0 then
    return 0
end
if not is_there(head, ARGV[2], ARGV[3]) then
    return -1
end
if ARGV[4] ~= ARGV[2] and not is_there(redis.call('XRANGE', KEYS[2], ARGV[4], ARGV[4]), ARGV[4], ARGV[5]) then
    return -1
end
local ms, seq = string.match(ARGV[4], '(%d+)-(%d+)')
redis.call('XTRIM', KEYS[2], 'MINID', '=', ms .. '-' .. string.format('%.0f', tonumber(seq) + 1))
redis.call('DECRBY', KEYS[3], ARGV[7])
redis.call('DECRBY', KEYS[4], ARGV[8])
redis.call('DECRBY', KEYS[5], ARGV[8])
for at = 11, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[6], ARGV[at], ARGV[at + 1])
end
if (redis.call('GET', KEYS[7]) or '0') == ARGV[9] then
    redis.call('SET', KEYS[7], ARGV[10])
end
return tonumber(ARGV[6])
