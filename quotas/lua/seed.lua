-- Copy a user's limit and the total of a month from the database, each only if Redis does not have it.
--
-- KEYS  1 quota_limit:datasets:<userId>
--       2 usage_total:datasets:<userId>:YYYY-MM
--       3 usage_delta:datasets:<userId>:YYYY-MM
-- ARGV  1 the user's limit, from the database
--       2 the records used in the month, from the database
--       3 the seconds that the month's counters live
--
-- RETURN 1
--
-- A counter that exists keeps its value. Since this process read the database, another process may have set the
-- counter, or a request may have been charged.
-- If the total was lost but the delta was not, the database lacks the records in the delta, so the script adds them to
-- the total.
--
-- Example: after FLUSHALL, with 42 records in the database
--     EVAL <seed> 3 quota_limit:datasets:7 usage_total:datasets:7:2026-11 usage_delta:datasets:7:2026-11
--         1000 42 8640000
--     sets the limit to 1000 and the total to 42, and no delta.

assert(#KEYS == 3 and #ARGV == 3, 'seed.lua: wrong number of KEYS or ARGV')
local limit_key, total_key, delta_key = unpack(KEYS)
local limit, used, ttl_seconds = unpack(ARGV)

redis.call('SET', limit_key, limit, 'NX')
if redis.call('EXISTS', total_key) == 0 then
    local unflushed = tonumber(redis.call('GET', delta_key) or '0')
    redis.call('SET', total_key, string.format('%.0f', tonumber(used) + unflushed), 'EX', ttl_seconds)
end
return 1
