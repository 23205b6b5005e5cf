-- After a flush: take what the database has off a month's delta, and the user off the dirty ones.
--
-- KEYS  1 usage_total   2 usage_delta   3 usage_dirty   4 quota_limit
-- ARGV  1 the month's usage, by the database   2 the member of usage_dirty   3 the user's limit, by the database
--       4 seconds the month's counters live
--
-- RETURN the delta that is left: what was charged beyond what the database has
--
-- The total is compared, not the delta lowered: of two flushes that wrote the same records, the second would take off
-- what was charged between the two. A flush that was overtaken by another leaves more than is true, and the user dirty;
-- the next flush puts that right.
--
-- A total below what the database has is of a Redis that was wiped, or lost its last writes, and is raised. A limit that
-- is not the database's was announced since the flush read it: the next one looks again.
--
-- Example: 52 charged, of which the database has 50; 1000 is the limit in both
--     EVAL <settle> 4 usage_total:datasets:7:2026-11 usage_delta:datasets:7:2026-11 usage_dirty:datasets
--         quota_limit:datasets:7 50 7:2026-11 1000 8640000
--     leaves a delta of 2, and the user dirty.

local total = redis.call('GET', KEYS[1])
redis.call('EXPIRE', KEYS[1], ARGV[4]) -- a charge ends its time to live
local left = tonumber(total or ARGV[1]) - tonumber(ARGV[1])
if left > 0 then
    redis.call('SET', KEYS[2], string.format('%.0f', left))
    redis.call('SADD', KEYS[3], ARGV[2])
    return left
end
if left < 0 then
    redis.call('INCRBY', KEYS[1], string.format('%.0f', -left))
end
redis.call('DEL', KEYS[2])
local limit = redis.call('GET', KEYS[4])
if not limit or limit == ARGV[3] then
    redis.call('SREM', KEYS[3], ARGV[2])
end
return 0
