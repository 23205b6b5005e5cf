-- Count a refused request, and keep it in its project's refusal log.
--
-- KEYS  1 refused            2 refused by hour, of the project
--       3 refusal log of the project     4 refusal logs     (both absent, with their arguments, where it is not kept)
--
-- ARGV  1 error code         2 <hour>:<error code>
--       3 project id         4 time in ms                   5 entries a log may hold
--       6 seconds until an unchanged log is deleted         7 logs there may be
--       8 prefix of the logs' keys                          9… refusals, oldest first
--
-- RETURN how often the code was counted
--
-- When there would be more logs than ARGV[7], the logs of the projects that were refused least recently are deleted.

redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
local counted = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)

if KEYS[3] then
    local log, logs = KEYS[3], KEYS[4]
    for i = 9, #ARGV do
        redis.call('LPUSH', log, ARGV[i])
    end
    redis.call('LTRIM', log, 0, ARGV[5] - 1)
    redis.call('EXPIRE', log, ARGV[6])
    redis.call('ZADD', logs, ARGV[4], ARGV[3])
    local surplus = redis.call('ZCARD', logs) - ARGV[7]
    if surplus > 0 then
        local oldest = redis.call('ZPOPMIN', logs, surplus)
        for i = 1, #oldest, 2 do
            redis.call('DEL', ARGV[8] .. oldest[i])
        end
    end
end
return counted
