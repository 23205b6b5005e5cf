-- Remove entries that are in the table from the head of a stream, and what they count for from the counters.
--
-- KEYS  1 generation   2 stream   3 queued   4 queued bytes   5 total bytes   6 stored by hour
-- ARGV  1 generation the entries were read in   2 last stream id to remove
--       3 first stream id   4 entries   5 records   6 bytes   7... hour, records, hour, records, ...
--         (3 on: what the drain knows of them; absent after a drain that died, for whoever finds its entries)
--
-- RETURN entries removed; 0 when there are none left (or the generation is over). Without ARGV 3, one call removes a
-- few: call until it says 0. -1: the head of the stream is not ARGV 3; call again without it.
--
-- What is removed is what is counted, in one step, because two drains may trim the same entries. If the head of the
-- stream is the first entry of a drain, all its entries are there: they are only ever removed from the head. Else they
-- are read and counted here, bodies and all, which keeps Redis from serving others: hence a few at a time.
--
-- A replay is stored, but did not come in: its hour was counted where it was accepted.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end

local function remove(last, entries, records, bytes, hours)
    local ms, seq = string.match(last, '(%d+)-(%d+)')
    redis.call('XTRIM', KEYS[2], 'MINID', '=', ms .. '-' .. string.format('%.0f', tonumber(seq) + 1))
    redis.call('DECRBY', KEYS[3], records)
    redis.call('DECRBY', KEYS[4], bytes)
    redis.call('DECRBY', KEYS[5], bytes)
    for hour, count in pairs(hours) do
        redis.call('HINCRBY', KEYS[6], hour, count)
    end
    return entries
end

if ARGV[3] then
    local head = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
    if #head == 0 then
        return 0
    elseif head[1][1] ~= ARGV[3] then
        return -1
    end
    local hours = {}
    for at = 7, #ARGV, 2 do
        hours[ARGV[at]] = ARGV[at + 1]
    end
    return remove(ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), hours)
end

local found = redis.call('XRANGE', KEYS[2], '-', ARGV[2], 'COUNT', 20)
if #found == 0 then
    return 0
end
local records, bytes, hours = 0, 0, {}
for _, entry in ipairs(found) do
    local count, replayed = 0, false
    for at = 1, #entry[2], 2 do
        if entry[2][at] == 'n' then
            count = tonumber(entry[2][at + 1])
        elseif entry[2][at] == 'b' then
            bytes = bytes + #entry[2][at + 1]
        elseif entry[2][at] == 'o' then
            replayed = true
        end
    end
    records = records + count
    if not replayed then
        local hour = string.format('%.0f', math.floor(tonumber(string.match(entry[1], '%d+')) / 3600000))
        hours[hour] = (hours[hour] or 0) + count
    end
end
return remove(found[#found][1], #found, records, bytes, hours)
