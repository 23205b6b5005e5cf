-- Seed a user's counters for a month, where they are missing.
--
-- KEYS  1 quota_limit   2 usage_total   3 usage_delta
-- ARGV  1 limit         2 used, by the database   3 seconds the month's counters live
--
-- RETURN 1
--
-- A counter that exists is left alone: two processes may seed at once, or after a charge. If the total was lost but
-- not the delta, what the delta counts is missing from the database and is added.
--
-- Example: after FLUSHALL, with 42 in the database
--     EVAL <seed> 3 quota_limit:datasets:7 usage_total:datasets:7:2026-11 usage_delta:datasets:7:2026-11 1000 42 8640000
--     leaves 1000, 42 and nothing.

redis.call('SET', KEYS[1], ARGV[1], 'NX')
if redis.call('EXISTS', KEYS[2]) == 0 then
    local unflushed = tonumber(redis.call('GET', KEYS[3]) or '0')
    redis.call('SET', KEYS[2], string.format('%.0f', tonumber(ARGV[2]) + unflushed), 'EX', ARGV[3])
end
return 1
