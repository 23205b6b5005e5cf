-- End a drain. If the stream is empty, the dataset is no longer pending. If not, its next drain is due immediately.
--
-- RETURN 1 if the stream is empty, else 0
--
-- This is one step. If there were two, a request could be admitted between them. Then its entry would stay in the
-- stream, but its dataset would not be pending.

assert(#KEYS == 3 and #ARGV == 2, 'end_drain.lua: wrong number of KEYS or ARGV')
local pending_key, stream_key, turns_key = unpack(KEYS)
local dataset_id, project_id = unpack(ARGV)

if redis.call('XLEN', stream_key) == 0 then
    redis.call('ZREM', pending_key, dataset_id)
    return 1
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', pending_key, now, dataset_id)
redis.call('ZADD', turns_key, 'LT', now, project_id)
return 0
