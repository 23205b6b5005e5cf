-- End a drain.
--
-- KEYS  1 pending, of the project   2 stream   3 turns
-- ARGV  1 dataset id   2 project id
--
-- RETURN 1 if the dataset is done, 0 if more is queued
--
-- One step, so that a request admitted just now cannot be left in a stream that nobody is told of.

if redis.call('XLEN', KEYS[2]) == 0 then
    redis.call('ZREM', KEYS[1], ARGV[1])
    return 1
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZADD', KEYS[3], 'LT', now, ARGV[2])
return 0
