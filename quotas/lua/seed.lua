-- Seed a user's counters for a month: set those that are missing.
--
-- RETURN 1
--
-- A counter that exists stays, because two processes may seed at once, or a request may have charged it before. If only
-- the total was lost, the delta still holds usage that the database does not have. It is added to the total.
--
-- Example: after FLUSHALL, with a usage of 42 in the database
--     EVAL <seed> 3 quota_limit:datasets:7 usage_total:datasets:7:2026-11 usage_delta:datasets:7:2026-11
--         1000 42 8640000
--     leaves a limit of 1000, a total of 42 and no delta.

assert(#KEYS == 3 and #ARGV == 3, 'seed.lua: wrong number of KEYS or ARGV')
local limit_key, total_key, delta_key = unpack(KEYS)
local limit, database_usage, ttl_seconds = unpack(ARGV)

redis.call('SET', limit_key, limit, 'NX')
if redis.call('EXISTS', total_key) == 0 then
    local unflushed = tonumber(redis.call('GET', delta_key) or '0')
    redis.call('SET', total_key, string.format('%.0f', tonumber(database_usage) + unflushed), 'EX', ttl_seconds)
end
return 1
