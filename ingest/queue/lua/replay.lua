-- Put a quarantined entry back into its dataset's stream, once.
--
-- RETURN the place of the replay, <generation>-<stream ID>; a repeated call returns the place of the first replay.
--        False if Redis has another generation now: then nothing was queued
--
-- An entry of an earlier generation counts as accepted in the present one, because the ledger of its own generation
-- is closed.

assert(#KEYS == 9 and #ARGV == 12, 'replay.lua: wrong number of KEYS or ARGV')
local generation_key, stream_key, accepted_key, queued_key, bytes_key, total_bytes_key, pending_key, replayed_key,
    turns_key = unpack(KEYS)
local row_id, -- ID of the entry's row in quarantine
    accepted_in, -- the generation in which the entry was accepted
    dataset_id,
    body,
    format,
    count, -- number of records
    version_id, -- ID of the schema version
    trace_id,
    origin, -- the entry's stream ID before its first replay
    generation, -- the present generation, as the caller knows it
    project_id,
    earlier -- which records are of an earlier schema version (`formats.Earlier.text`); '' if all are of `version_id`
    = unpack(ARGV)

local place = redis.call('HGET', replayed_key, row_id)
if place then
    return place
end
if redis.call('GET', generation_key) ~= generation then
    return false
end
local entry = {'b', body, 'f', format, 'n', count, 'v', version_id, 't', trace_id, 'o', origin}
if earlier ~= '' then
    entry[#entry + 1] = 'e'
    entry[#entry + 1] = earlier
end
local id = redis.call('XADD', stream_key, '*', unpack(entry))
place = generation .. '-' .. id
redis.call('HSET', replayed_key, row_id, place)
if generation ~= accepted_in then
    redis.call('INCRBY', accepted_key, count)
end
redis.call('INCRBY', queued_key, count)
redis.call('INCRBY', bytes_key, #body)
redis.call('INCRBY', total_bytes_key, #body)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZADD', pending_key, 'NX', now, dataset_id) == 1 then
    redis.call('ZADD', turns_key, 'LT', now, project_id)
end
return place
