-- After a flush, set the month's delta to what the database still lacks: the total minus the database's usage. If it
-- lacks nothing, remove the month from usage_dirty.
--
-- KEYS  1 usage_total:datasets:<userId>:YYYY-MM
--       2 usage_delta:datasets:<userId>:YYYY-MM
--       3 usage_dirty:datasets
--       4 quota_limit:datasets:<userId>
-- ARGV  1 the records used in the month, from the database
--       2 the member of usage_dirty: <userId>:YYYY-MM
--       3 the user's limit, from the database
--       4 the seconds that the month's counters live
--
-- RETURN the new delta: records that were charged and are not in the database
--
-- Do not subtract the flushed records from the old delta: if two flushes wrote the same records, the second would also
-- subtract records that were charged between the two. If a later flush has already written more, the new delta is too
-- high, and the month stays in usage_dirty. The next flush corrects the delta.
--
-- If the total is below the database's usage, Redis was wiped or lost its last writes, so the script raises the total.
-- If the limit in Redis differs from the limit that this flush read, an admin has changed it meanwhile. The month
-- stays in usage_dirty, so the next flush reads the limit again.
--
-- Example: 52 records charged, 50 of them in the database, and a limit of 1000 in both
--     EVAL <note_flushed> 4 usage_total:datasets:7:2026-11 usage_delta:datasets:7:2026-11 usage_dirty:datasets
--         quota_limit:datasets:7 50 7:2026-11 1000 8640000
--     returns 2, sets the delta to 2, and leaves the month in usage_dirty.

assert(#KEYS == 4 and #ARGV == 4, 'note_flushed.lua: wrong number of KEYS or ARGV')
local total_key, delta_key, dirty_key, limit_key = unpack(KEYS)
local flushed, member, flushed_limit, ttl_seconds = unpack(ARGV)

local total = redis.call('GET', total_key)
redis.call('EXPIRE', total_key, ttl_seconds) -- admit.lua removes the time to live
local left = tonumber(total or flushed) - tonumber(flushed)
if left > 0 then
    redis.call('SET', delta_key, string.format('%.0f', left))
    redis.call('SADD', dirty_key, member)
    return left
end
if left < 0 then
    redis.call('INCRBY', total_key, string.format('%.0f', -left))
end
redis.call('DEL', delta_key)
local limit = redis.call('GET', limit_key)
if not limit or limit == flushed_limit then
    redis.call('SREM', dirty_key, member)
end
return 0
