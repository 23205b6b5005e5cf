-- Take the dataset of a project that has been due the longest, if it is the project's turn.
--
-- RETURN the dataset's ID; 0 if no dataset of the project is due (the caller looks for another project);
--        -1 if it is not the project's turn
--
-- The dataset is due again one lease later. So if a drain dies or never starts, another one follows.
-- The project's turn moves to now, behind all projects that wait. So another project waits for at most one drain of it,
-- however many datasets it has.
-- A time more than one lease ahead was written before the clock was set back. It counts as now.

assert(#KEYS == 2 and #ARGV == 2, 'take.lua: wrong number of KEYS or ARGV')
local turns_key, pending_key = unpack(KEYS)
local project_id, lease_ms = unpack(ARGV)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_end = now + tonumber(lease_ms)
local function is_ahead(moment)
    return tonumber(moment) > now and tonumber(moment) <= lease_end
end

if is_ahead(redis.call('ZSCORE', turns_key, project_id) or 0) then
    return -1
end
local dataset_id, due = unpack(redis.call('ZRANGE', pending_key, 0, 0, 'WITHSCORES'))
if not dataset_id then
    redis.call('ZREM', turns_key, project_id)
    return 0
elseif is_ahead(due) then
    redis.call('ZADD', turns_key, due, project_id)
    return 0
end
redis.call('ZADD', pending_key, lease_end, dataset_id)
redis.call('ZADD', turns_key, now, project_id)
return tonumber(dataset_id)
