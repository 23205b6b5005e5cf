-- Take the datasets whose drain is due, and make each due again one lease later.
--
-- KEYS  1 pending
-- ARGV  1 most datasets   2 lease in ms
--
-- RETURN their ids
--
-- A drain that dies, or a trigger that is lost, is thus followed by another.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
    redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[2]), id)
end
return ids
