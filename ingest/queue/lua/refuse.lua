-- Count a refused request, or the refused records of one, and keep it in its project's refusal log.
--
-- KEYS  1 refused            2 refused by hour, of the project
--       3 refusal log of the project     4 refusal logs     (both absent, with their arguments, where it is not kept)
--
-- ARGV  1 error code         2 <hour>:<error code>         3 by how much they are counted
--       4 project id         5 time in ms                   6 entries a log may hold
--       7 seconds until an unchanged log is deleted         8 logs there may be
--       9 prefix of the logs' keys                          10… refusals, oldest first
--
-- RETURN how often the code was counted
--
-- When there would be more logs than ARGV[8], the logs of the projects that were refused least recently are deleted.

redis.call('HINCRBY', KEYS[2], ARGV[2], ARGV[3])
local counted = redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[3])

if KEYS[3] then
    local log, logs = KEYS[3], KEYS[4]
    for i = 10, #ARGV do
        redis.call('LPUSH', log, ARGV[i])
    end
    redis.call('LTRIM', log, 0, ARGV[6] - 1)
    redis.call('EXPIRE', log, ARGV[7])
    redis.call('ZADD', logs, ARGV[5], ARGV[4])
    local surplus = redis.call('ZCARD', logs) - ARGV[8]
    if surplus > 0 then
        local oldest = redis.call('ZPOPMIN', logs, surplus)
        for i = 1, #oldest, 2 do
            redis.call('DEL', ARGV[9] .. oldest[i])
        end
    end
end
return counted
