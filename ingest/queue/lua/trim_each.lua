-- Remove the first entries of a stream, up to the first entry that the arguments do not name. The named entries are in
-- the table or in quarantine.
--
-- RETURN how many entries were removed
--
-- This is needed if the stream no longer begins with the entries that were read: another drain has removed some of
-- them, or Redis was restored from an older copy. An entry that is not named stays in the stream, and the next drain
-- checks whether the table has it. The script reads each entry with its body, and Redis serves no other client
-- meanwhile. So name only a few entries in a call.
--
-- The records of a replay were counted in their hour of acceptance. So this script does not count them again.

assert(#KEYS == 7 and #ARGV >= 1, 'trim_each.lua: wrong number of KEYS or ARGV')
-- The keys are those of trim.lua. This script does not need the last key.
local generation_key, stream_key, queued_key, bytes_key, total_bytes_key, stored_by_hour_key = unpack(KEYS)
local generation = ARGV[1] -- the generation in which the entries were read
local FIRST_ENTRY = 2 -- from here on, ARGV holds stream ID, mark, stream ID, mark, ...

if redis.call('GET', generation_key) ~= generation then
    return 0
end
local marks = {} -- stream ID -> trace ID, or '' for any trace ID
for at = FIRST_ENTRY, #ARGV, 2 do
    marks[ARGV[at]] = ARGV[at + 1]
end
local removed, records, bytes, hours = 0, 0, 0, {}
while true do
    local head = redis.call('XRANGE', stream_key, '-', '+', 'COUNT', 1)
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
    redis.call('XDEL', stream_key, id)
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
redis.call('DECRBY', queued_key, records)
redis.call('DECRBY', bytes_key, bytes)
redis.call('DECRBY', total_bytes_key, bytes)
for hour, count in pairs(hours) do
    redis.call('HINCRBY', stored_by_hour_key, hour, count)
end
return removed
