-- After a flush: subtract the flushed usage from the month's delta. When nothing is left, clear the user's dirty flag.
--
-- RETURN the delta that is left: usage that the database does not have yet
--
-- The new delta is the total minus the database's usage. If the script lowered the delta instead, two flushes that
-- wrote the same records would both subtract them, and lose what was charged in between. If another flush has overtaken
-- this one, the delta that is left is too high and the user stays dirty. The next flush corrects both.
--
-- A total below the database's usage means that Redis was wiped or lost its last writes. The total is raised. If the
-- limit in Redis is not the one that the flush has read, it has changed since. The user stays dirty, and the next flush
-- reads it again.
--
-- Example: 52 charged, of which the database has 50; 1000 is the limit in both
--     EVAL <settle> 4 usage_total:datasets:7:2026-11 usage_delta:datasets:7:2026-11 usage_dirty:datasets
--         quota_limit:datasets:7 50 7:2026-11 1000 8640000
--     leaves a delta of 2, and the user dirty.

assert(#KEYS == 4 and #ARGV == 4, 'settle.lua: wrong number of KEYS or ARGV')
local total_key, delta_key, dirty_key, limit_key = unpack(KEYS)
local database_usage,
    member, -- of usage_dirty
    database_limit,
    ttl_seconds -- of the month's counters
    = unpack(ARGV)

local total = redis.call('GET', total_key)
redis.call('EXPIRE', total_key, ttl_seconds) -- admit.lua removes the time to live
local left = tonumber(total or database_usage) - tonumber(database_usage)
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
if not limit or limit == database_limit then
    redis.call('SREM', dirty_key, member)
end
return 0
