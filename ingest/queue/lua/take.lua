-- Take the dataset of a project that has been due the longest, if it is the project's turn.
--
-- KEYS  1 turns      2 pending, of the project
-- ARGV  1 project id   2 lease in ms
--
-- RETURN the dataset's id; 0 if nothing of the project is due: look for another project; -1 if it is not its turn yet
--
-- The dataset is due again one lease later. So a drain that dies, or is never begun, is followed by another.
-- The project's turn moves to now, behind all projects that wait: however many datasets a project has, another one
-- waits for one drain of it.

-- A time more than a lease ahead was written before the clock was set back: it counts as now.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[2])
local function is_ahead(moment)
    return tonumber(moment) > now and tonumber(moment) <= now + lease
end

if is_ahead(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) then
    return -1
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if #first == 0 then
    redis.call('ZREM', KEYS[1], ARGV[1])
    return 0
elseif is_ahead(first[2]) then
    redis.call('ZADD', KEYS[1], first[2], ARGV[1])
    return 0
end
redis.call('ZADD', KEYS[2], now + lease, first[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
return tonumber(first[1])
