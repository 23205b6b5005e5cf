-- Put a quarantined entry back into its dataset's stream, once.
--
-- KEYS  1 generation   2 stream     3 accepted   4 queued   5 queued bytes   6 total bytes
--       7 pending, of the project   8 replayed   9 turns
-- ARGV  1 id of the quarantine row   2 generation it was accepted in   3 dataset id
--       4 body   5 format   6 number of records   7 schema version id   8 trace id   9 stream id of its acceptance
--      10 generation of the present set of Redis data   11 project id
--
-- RETURN the place of the replay, <generation>-<stream id>: the first one's, however often it is called; false, and
--        nothing is queued, if the present generation is another
--
-- An entry of an earlier generation counts as accepted in this one: its own ledger is closed.

local before = redis.call('HGET', KEYS[8], ARGV[1])
if before then
    return before
end
local generation = redis.call('GET', KEYS[1])
if generation ~= ARGV[10] then
    return false
end
local id = redis.call(
    'XADD', KEYS[2], '*', 'b', ARGV[4], 'f', ARGV[5], 'n', ARGV[6], 'v', ARGV[7], 't', ARGV[8], 'o', ARGV[9]
)
local place = generation .. '-' .. id
redis.call('HSET', KEYS[8], ARGV[1], place)
if generation ~= ARGV[2] then
    redis.call('INCRBY', KEYS[3], ARGV[6])
end
redis.call('INCRBY', KEYS[4], ARGV[6])
redis.call('INCRBY', KEYS[5], #ARGV[4])
redis.call('INCRBY', KEYS[6], #ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZADD', KEYS[7], 'NX', now, ARGV[3]) == 1 then
    redis.call('ZADD', KEYS[9], 'LT', now, ARGV[11])
end
return place
