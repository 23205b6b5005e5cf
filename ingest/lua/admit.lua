-- Admit one request to a dataset's queue: everything that must hold at the moment of acceptance, and then everything
-- that acceptance means. All or nothing: every check comes before the first write.
--
-- KEYS  1 revision    2 quota_limit   3 usage_total   4 usage_delta   5 usage_dirty
--       6 generation  7 stream        8 counters      9 total bytes  10 pending
--      11 total accepted             12 keys:last_used                13 slot
--      14 idempotency (absent where the client gave no key)
--
-- ARGV  1 revision the contract was read under
--       2 number of this admission in its slot (rises by one a request)
--       3 latest time at which to act, in ms by this server's clock
--       4 number of records          5 dataset id        6 member of usage_dirty (<userId>:YYYY-MM)
--       7 schema version id          8 format (o a l)    9 trace id          10 body
--      11 most queued bytes of the dataset              12 most queued bytes of all datasets
--      13 generation to begin, should there be none     14 id of the API key
--      15 digest of method and body                     16 seconds an idempotency key is remembered
--
-- RETURN {outcome, server time in ms, ...}
--      accepted | replayed, time, generation, stream id, number of records, limit, used
--      stale               the contract was changed: read it again
--      late                the time limit has passed (or the slot has moved on): nothing will happen
--      unseeded            a quota counter is missing: seed it and call again
--      key_reused          the idempotency key came with another body before
--      over_quota, time, limit, used
--      full
--
-- A request whose reply was lost is sent again with the same number, and gets the reply that the first one would have
-- had. An earlier number than the slot's is a late copy of a request that was given up: it must not act.
--
-- Example: 2 records for dataset 13 of user 7, of whose 1000 records 10 are used, return
--      {'accepted', 1764000000123, 'b61c…', '1764000000123-0', 2, 1000, 12}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local seen = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[9], KEYS[11], KEYS[13])

local number = tonumber(ARGV[2])
if seen[7] then
    local last, generation, id, count, limit, used = string.match(seen[7], '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
    last = tonumber(last)
    if last == number then
        return {'accepted', now, generation, id, tonumber(count), tonumber(limit), tonumber(used)}
    elseif last > number then
        return {'late', now}
    end
end
if now > tonumber(ARGV[3]) then
    return {'late', now}
end
if seen[1] ~= ARGV[1] then
    return {'stale', now}
end
if not seen[2] or not seen[3] then
    return {'unseeded', now}
end

local count = tonumber(ARGV[4])
local limit = tonumber(seen[2])
local used = tonumber(seen[3])

if KEYS[14] then
    local first = redis.call('GET', KEYS[14])
    if first then
        first = cmsgpack.unpack(first)
        if first[1] ~= ARGV[15] then
            return {'key_reused', now}
        end
        return {'replayed', now, first[2], first[3], first[4], limit, used}
    end
end
if limit ~= -1 and used + count > limit then
    return {'over_quota', now, limit, used}
end
local size = #ARGV[10]
local counters = redis.call('HMGET', KEYS[8], 'accepted', 'queued', 'bytes')
local bytes = (counters[3] or 0) + size
local total_bytes = (seen[5] or 0) + size
if bytes > tonumber(ARGV[11]) or total_bytes > tonumber(ARGV[12]) then
    return {'full', now}
end

-- From here on: writes. The first is refused by a server that is out of memory; none after it is. What was read above
-- is written back as sums, several at once: each command costs Redis as much as its work does.
local generation = seen[4]
if not generation then
    generation = ARGV[13]
    redis.call('SET', KEYS[6], generation)
end
used = redis.call('INCRBY', KEYS[3], count) -- not by MSET, which would end the month's time to live
if redis.call('INCRBY', KEYS[4], count) == count then
    redis.call('SADD', KEYS[5], ARGV[6])
end
local id = redis.call(
    'XADD', KEYS[7], '*', 'b', ARGV[10], 'f', ARGV[8], 'n', ARGV[4], 'v', ARGV[7], 't', ARGV[9]
)
redis.call('MSET', KEYS[9], total_bytes, KEYS[11], (seen[6] or 0) + count)
redis.call(
    'HSET', KEYS[8], 'accepted', (counters[1] or 0) + count, 'queued', (counters[2] or 0) + count, 'bytes', bytes
)
redis.call('ZADD', KEYS[10], 'NX', now, ARGV[5])
if ARGV[14] ~= '' then
    redis.call('HSET', KEYS[12], ARGV[14], now)
end
if KEYS[14] then
    redis.call('SET', KEYS[14], cmsgpack.pack({ARGV[15], generation, id, count}), 'EX', ARGV[16])
end
local outcome = {ARGV[2], generation, id, ARGV[4], seen[2], string.format('%.0f', used)}
redis.call('SET', KEYS[13], table.concat(outcome, ' '), 'EX', 3600)
return {'accepted', now, generation, id, count, limit, used}
