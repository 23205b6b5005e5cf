-- Remove entries that are in the table from the head of a stream, as long as it is one of those named.
--
-- KEYS  as trim.lua
-- ARGV  1 generation the entries were read in   2... stream id, mark, stream id, mark, ...
--       (a mark is a trace id, or '' for any)
--
-- RETURN entries removed
--
-- For entries that are no longer what the stream begins with: another drain has removed some of them, or Redis was
-- restored from an older copy. An entry that is not named is left for the next drain, which looks whether the table has
-- it. Entries are read and counted here, bodies and all, which keeps Redis from serving others: name a few at a time.
--
-- A replay is stored, but did not come in: its hour was counted where it was accepted.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
local marks = {}
for at = 2, #ARGV, 2 do
    marks[ARGV[at]] = ARGV[at + 1]
end
local removed, records, bytes, hours = 0, 0, 0, {}
while true do
    local head = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
    local id = #head > 0 and head[1][1]
    local mark = id and marks[id]
    if not mark then
        break
    end
    local fields = {}
    for at = 1, #head[1][2], 2 do
        fields[head[1][2][at]] = head[1][2][at + 1]
    end
    if mark ~= '' and fields['t'] ~= mark then
        break
    end
    redis.call('XDEL', KEYS[2], id)
    local count = tonumber(fields['n'] or '0')
    removed, records, bytes = removed + 1, records + count, bytes + #(fields['b'] or '')
    if not fields['o'] then
        local hour = string.format('%.0f', math.floor(tonumber(string.match(id, '%d+')) / 3600000))
        hours[hour] = (hours[hour] or 0) + count
    end
end
if removed == 0 then
    return 0
end
redis.call('DECRBY', KEYS[3], records)
redis.call('DECRBY', KEYS[4], bytes)
redis.call('DECRBY', KEYS[5], bytes)
for hour, count in pairs(hours) do
    redis.call('HINCRBY', KEYS[6], hour, count)
end
return removed
