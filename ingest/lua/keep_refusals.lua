-- Keep refusals of one project in its log. The log is bounded; so is the number of projects that have one.
--
-- KEYS  1 refusal log of the project   2 refusal logs
--
-- ARGV  1 project id                   2 time in ms            3 entries a log may hold
--       4 seconds until an unchanged log is deleted            5 logs there may be
--       6 prefix of the logs' keys     7… refusals, oldest first
--
-- RETURN entries in the log
--
-- When there would be more logs than ARGV[5], the logs of the projects that were refused least recently are deleted.

local log, logs = KEYS[1], KEYS[2]
local max_entries, max_logs = tonumber(ARGV[3]), tonumber(ARGV[5])

for i = 7, #ARGV do
    redis.call('LPUSH', log, ARGV[i])
end
redis.call('LTRIM', log, 0, max_entries - 1)
redis.call('EXPIRE', log, ARGV[4])
redis.call('ZADD', logs, ARGV[2], ARGV[1])
local surplus = redis.call('ZCARD', logs) - max_logs
if surplus > 0 then
    local oldest = redis.call('ZPOPMIN', logs, surplus)
    for i = 1, #oldest, 2 do
        redis.call('DEL', ARGV[6] .. oldest[i])
    end
end
return redis.call('LLEN', log)
