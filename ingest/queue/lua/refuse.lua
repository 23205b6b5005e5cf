-- Count a refused request, or the refused records of a batch, and add them to the refusal log of the project.
--
-- If nothing is to be logged, the keys of the logs and all arguments after `amount` are absent.
--
-- RETURN how many refusals with this code have been counted
--
-- If there are more than `max_logs` logs, the script deletes those that were not changed for the longest time.

assert(#KEYS == 2 and #ARGV == 3 or #KEYS == 4 and #ARGV >= 9, 'refuse.lua: wrong number of KEYS or ARGV')
local refused_key, refused_by_hour_key, log_key, logs_key = unpack(KEYS)
local code,
    hour_and_code, -- <hour>:<error code>
    amount, -- the script adds this number to the counters
    project_id,
    now, -- ms since the epoch
    max_entries, -- maximum number of entries of a log
    log_seconds, -- a log is deleted this time after its last change
    max_logs, -- maximum number of logs
    log_prefix -- the names of all logs begin with this text
    = unpack(ARGV, 1, 9)
local FIRST_REFUSAL = 10 -- from here on, ARGV holds refusals, oldest first

redis.call('HINCRBY', refused_by_hour_key, hour_and_code, amount)
local counted = redis.call('HINCRBY', refused_key, code, amount)

if log_key then
    for at = FIRST_REFUSAL, #ARGV do
        redis.call('LPUSH', log_key, ARGV[at])
    end
    redis.call('LTRIM', log_key, 0, max_entries - 1)
    redis.call('EXPIRE', log_key, log_seconds)
    redis.call('ZADD', logs_key, now, project_id)
    local surplus = redis.call('ZCARD', logs_key) - max_logs
    if surplus > 0 then
        local oldest = redis.call('ZPOPMIN', logs_key, surplus)
        for at = 1, #oldest, 2 do
            redis.call('DEL', log_prefix .. oldest[at])
        end
    end
end
return counted
