-- Take the datasets of a project that have been due the longest, if it is the project's turn.
--
-- RETURN {1, dataset ID, ...}; {1} if no dataset of the project was due at `due_by` (look for another project); {0} if
-- it is not the project's turn
--
-- The datasets are due again one lease later. So if a drain dies or never starts, another one follows.
-- The time of the project's turn becomes now. This puts the project behind all projects that wait. So other projects
-- wait for at most one drain of this project, even if it has many datasets.
-- The script counts the datasets of the project that are due, and the other projects that wait. If these are together
-- more than `max_datasets`, the workers are busy. Then a dataset is due `rest_ms` later than otherwise, so that one
-- commit has more of its records.
-- If a time is more than one lease ahead, it was written before the clock was set back. It counts as now.

assert(#KEYS == 3 and #ARGV == 6, 'take.lua: wrong number of KEYS or ARGV')
local turns_key, pending_key, total_bytes_key = unpack(KEYS)
local project_id,
    lease_ms,
    max_datasets, -- the script takes at most this number of datasets
    max_bytes, -- maximum number of bytes that these datasets have queued together; the first dataset may have more
    rest_ms,
    due_by -- the script takes only datasets that were due at this time, in ms since the epoch; 0 means now
    = unpack(ARGV)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_end = now + tonumber(lease_ms)
due_by = tonumber(due_by) > 0 and math.min(tonumber(due_by), now) or now
local function is_between(moment, begin)
    return tonumber(moment) > begin and tonumber(moment) <= lease_end
end

if is_between(redis.call('ZSCORE', turns_key, project_id) or 0, now) then
    return {0}
end
local due = redis.call('ZRANGE', pending_key, 0, tonumber(max_datasets) - 1, 'WITHSCORES')
if #due == 0 then
    redis.call('ZREM', turns_key, project_id)
    return {1}
end
local other_projects = redis.call('ZCOUNT', turns_key, '-inf', now) - 1
local waiting = redis.call('ZCOUNT', pending_key, '-inf', now) + other_projects
local rest = waiting > tonumber(max_datasets) and tonumber(rest_ms) or 0
local taken, bytes = {1}, 0
for at = 1, #due, 2 do
    local dataset_id, moment = due[at], tonumber(due[at + 1])
    local begins = moment <= now and math.min(moment + rest, lease_end) or moment
    if is_between(begins, due_by) then
        if #taken == 1 then
            redis.call('ZADD', turns_key, begins, project_id)
        end
        break
    end
    -- The name of a dataset's counter is the name of the total, a colon and the dataset's ID.
    bytes = bytes + (redis.call('GET', total_bytes_key .. ':' .. dataset_id) or 0)
    if #taken > 1 and bytes > tonumber(max_bytes) then
        break
    end
    redis.call('ZADD', pending_key, lease_end, dataset_id)
    taken[#taken + 1] = dataset_id
end
if #taken > 1 then
    redis.call('ZADD', turns_key, now, project_id)
end
return taken
