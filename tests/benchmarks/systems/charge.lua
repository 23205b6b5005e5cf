-- Charge a request's records to a quota and queue its body, or change nothing if the quota is used up. The ceiling and
-- the Node service run this script. It is simpler than the product's script: it does not make a retry safe, look at the
-- backlog, or check the schema in force.
--
-- RETURN {1, stream ID}, or {0} if the quota is used up
--
-- Example: 2 records of a user who has used 10 of 1000 records return {1, '1764000000123-0'}

local limit_key, total_key, delta_key, stream_key, pending_key = unpack(KEYS)
local count, body = unpack(ARGV)

local limit = tonumber(redis.call('GET', limit_key) or '-1')
local used = tonumber(redis.call('GET', total_key) or '0')
if limit ~= -1 and used + count > limit then
    return {0}
end
redis.call('INCRBY', total_key, count)
redis.call('INCRBY', delta_key, count)
local id = redis.call('XADD', stream_key, '*', 'b', body, 'n', count)
redis.call('ZADD', pending_key, 'NX', 0, '1')
return {1, id}
