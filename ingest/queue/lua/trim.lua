-- Remove the first entries of a stream, which are in the table, and subtract them from the counters.
--
-- RETURN
--      n > 0   n entries were removed
--      0       the stream is empty, or it belongs to a later generation
--      -1      the stream may begin with other entries. Nothing was changed; the caller must call trim_each.lua
--
-- Two drains may trim the same entries. So removing and counting are one step.
-- IDs only rise, and entries are only removed from the head of the stream. So if the first entry is at the head and the
-- last entry is in the stream, the entries between them are exactly those that were read. This also holds if Redis was
-- restored from an older copy in the meantime.
-- `trimmed` becomes `watermark_after` only if it was `watermark_before`. If it was not, this Redis has forgotten
-- records, and a drain must count them.

assert(#KEYS == 7 and #ARGV >= 10, 'trim.lua: wrong number of KEYS or ARGV')
local generation_key, stream_key, queued_key, bytes_key, total_bytes_key, stored_by_hour_key, trimmed_key = unpack(KEYS)
local generation, -- the generation in which the entries were read
    first_id,
    first_mark, -- a mark is the entry's trace ID, or '' for any trace ID
    last_id,
    last_mark,
    entries,
    records,
    bytes,
    watermark_before, -- the table's watermark without these entries; -1 if `trimmed` must stay as it is
    watermark_after -- the table's watermark with these entries
    = unpack(ARGV, 1, 10)
local FIRST_HOUR = 11 -- from here on, ARGV holds hour, records, hour, records, ...

if redis.call('GET', generation_key) ~= generation then
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

local head = redis.call('XRANGE', stream_key, '-', '+', 'COUNT', 1)
if #head == 0 then
    return 0
end
if not is_there(head, first_id, first_mark) then
    return -1
end
if last_id ~= first_id and not is_there(redis.call('XRANGE', stream_key, last_id, last_id), last_id, last_mark) then
    return -1
end
local ms, sequence = string.match(last_id, '(%d+)-(%d+)')
redis.call('XTRIM', stream_key, 'MINID', '=', ms .. '-' .. string.format('%.0f', tonumber(sequence) + 1))
redis.call('DECRBY', queued_key, records)
redis.call('DECRBY', bytes_key, bytes)
redis.call('DECRBY', total_bytes_key, bytes)
for at = FIRST_HOUR, #ARGV, 2 do
    redis.call('HINCRBY', stored_by_hour_key, ARGV[at], ARGV[at + 1])
end
if (redis.call('GET', trimmed_key) or '0') == watermark_before then
    redis.call('SET', trimmed_key, watermark_after)
end
return tonumber(entries)
