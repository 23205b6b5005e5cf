-- Admit one request to a dataset's queue: everything that must hold at the moment of acceptance, and then everything
-- that acceptance means. All or nothing: every check comes before the first write.
--
-- KEYS  1 revision      2 quota_limit   3 usage_total      4 usage_delta   5 generation
--       6 accepted      7 queued        8 queued bytes     9 total bytes  10 total accepted
--      11 stream       12 pending      13 usage_dirty     14 last used    15 slots          16 room
--      17 turns        18 slot
--      19 idempotency  20 the project's idempotency keys (absent, with their arguments, if the client gave no key)
--
-- ARGV  1 revision the contract was read under
--       2 number of this admission in its slot (rises by one a request)
--       3 latest time at which to act, in ms by this server's clock
--       4 number of records          5 dataset id        6 member of usage_dirty (<userId>:YYYY-MM)
--       7 schema version id          8 format (o a l)    9 trace id          10 body
--      11 most queued bytes of the dataset              12 most queued bytes of all datasets
--      13 id of the API key, where its use is to be noted             14 project id
--      15 share of the backlog that other projects leave free, which this project may take
--      16 generation, which this process knows to be its own installation's
--      17 digest of the kind of body and the body, 8 bytes
--      18 seconds an idempotency key is remembered      19 most idempotency keys of the project
--      20 what the answer says of the records that a lenient batch leaves out; empty for any other request
--
-- RETURN {outcome, server time in ms, ...}
--      accepted, time, generation, stream id, number of records, limit, used
--      replayed, the same, and the first request's ARGV 20
--      stale               the contract was changed: read it again
--      late                the time limit has passed (or the slot has moved on): nothing will happen
--      unseeded            a quota counter is missing, or the generation is another: seed both and call again
--      key_reused          the idempotency key came with another body before
--      over_quota, time, limit, used
--      full, time, what    dataset, project or all: the backlog limit; memory: Redis has no room for a longer backlog
--      too_many_keys, time, seconds until some are forgotten
--
-- A request whose reply was lost is sent again with the same number, and gets the reply that the first one would have
-- had, but for the quota, which is that of now. An earlier number than the slot's is a late copy of a request that was
-- given up: it must not act.
-- Admission stops when Redis uses 80 % of `maxmemory`, so that drains and the changes of admins always fit. (A server
-- without `maxmemory`, or one that does not let us see it, has room without end until it says no.) Looking costs
-- as much as half of all the rest, so it is done once a second: the room is the number of queued bytes that admission
-- may reach until the next look. It is half of what is free, since an entry takes more memory than its body, and none below 1 %.
--
-- The bytes of a project are only summed up while the backlog is long enough to matter. The names of the counters are
-- made from that of KEYS 8.
--
-- Idempotency keys are counted per project in a hash: time at which they are forgotten, in steps of a 24th of their
-- life -> how many. The count is thus too high by those that were forgotten within the last step.
--
-- Example: 2 records for dataset 13 of user 7, of whose 1000 records 10 are used, return
--      {'accepted', 1764000000123, 'b61c…', '1764000000123-0', 2, 1000, 12}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Each command costs Redis as much as its work does: what is read is read at once, and written back as sums.
local seen = redis.call(
    'MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[16],
    KEYS[18]
)

local slot = seen[12]
if slot then
    local last, id = string.match(slot, '(%S+) (%S+)')
    last = tonumber(last)
    local number = tonumber(ARGV[2])
    if last == number then
        return {'accepted', now, seen[5], id, tonumber(ARGV[4]), tonumber(seen[2] or -1), tonumber(seen[3] or 0)}
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
local generation = seen[5]
if not seen[2] or not seen[3] or generation ~= ARGV[16] then
    return {'unseeded', now}
end

local count = tonumber(ARGV[4])
local limit = tonumber(seen[2])
local used = tonumber(seen[3])

if KEYS[19] then
    local first = redis.call('GET', KEYS[19])
    if first then
        if string.sub(first, 1, 8) ~= ARGV[17] then
            return {'key_reused', now}
        end
        local its_generation, its_id, its_count, rejected = string.match(first, '^(%S+) (%S+) (%d+) ?(.*)', 9)
        return {'replayed', now, its_generation, its_id, tonumber(its_count), limit, used, rejected}
    end
end
if limit ~= -1 and used + count > limit then
    return {'over_quota', now, limit, used}
end
local size = #ARGV[10]
local bytes = (seen[8] or 0) + size
local total_bytes = (seen[9] or 0) + size
local room = seen[11]
if not room then
    local memory = redis.pcall('INFO', 'memory')
    local most = type(memory) == 'string' and tonumber(string.match(memory, '[\r\n]maxmemory:(%d+)')) or 0
    room = 9007199254740992
    if most > 0 then
        local free = most * 0.8 - tonumber(string.match(memory, '[\r\n]used_memory:(%d+)'))
        room = total_bytes - size + (free > most * 0.01 and math.floor(free / 2) or 0)
    end
    redis.call('SET', KEYS[16], string.format('%.0f', room), 'PX', 1000)
end
if bytes > tonumber(ARGV[11]) then
    return {'full', now, 'dataset'}
elseif total_bytes > tonumber(ARGV[12]) then
    return {'full', now, 'all'}
elseif total_bytes > tonumber(room) then
    return {'full', now, 'memory'}
end
local share = tonumber(ARGV[15])
local most_bytes = math.min(tonumber(ARGV[12]), tonumber(room))
if total_bytes > share * most_bytes then
    local of_project = size
    local names = redis.call('ZRANGE', KEYS[12], 0, -1)
    local prefix = string.gsub(KEYS[8], '%d+$', '')
    for from = 1, #names, 1000 do
        local keys = {}
        for at = from, math.min(from + 999, #names) do
            keys[#keys + 1] = prefix .. names[at]
        end
        for _, its_bytes in ipairs(redis.call('MGET', unpack(keys))) do
            of_project = of_project + tonumber(its_bytes or 0)
        end
    end
    if of_project > share * (most_bytes - total_bytes + of_project) then
        return {'full', now, 'project'}
    end
end
local forgotten
if KEYS[19] then
    local keys, next_end = 0, nil
    forgotten = {}
    local steps = redis.call('HGETALL', KEYS[20])
    for at = 1, #steps, 2 do
        local ends = tonumber(steps[at])
        if ends * 1000 > now then
            keys = keys + tonumber(steps[at + 1])
            next_end = math.min(next_end or ends, ends)
        else
            forgotten[#forgotten + 1] = steps[at]
        end
    end
    if keys >= tonumber(ARGV[19]) then
        return {'too_many_keys', now, math.ceil(next_end - now / 1000)}
    end
end

-- From here on: writes. The first is refused by a server that is out of memory; none after it is.
local id = redis.call(
    'XADD', KEYS[11], '*', 'b', ARGV[10], 'f', ARGV[8], 'n', ARGV[4], 'v', ARGV[7], 't', ARGV[9]
)
used = used + count
-- This ends the time to live of the month's total, which the next flush gives it again.
redis.call(
    'MSET', KEYS[3], used, KEYS[4], (seen[4] or 0) + count, KEYS[6], (seen[6] or 0) + count,
    KEYS[7], (seen[7] or 0) + count, KEYS[8], bytes, KEYS[9], total_bytes, KEYS[10], (seen[10] or 0) + count,
    KEYS[18], ARGV[2] .. ' ' .. id
)
if (seen[4] or '0') == '0' then
    redis.call('SADD', KEYS[13], ARGV[6])
end
if redis.call('ZADD', KEYS[12], 'NX', now, ARGV[5]) == 1 then
    redis.call('ZADD', KEYS[17], 'LT', now, ARGV[14])
end
if not slot then
    redis.call('SADD', KEYS[15], KEYS[18])
end
if ARGV[13] ~= '' then
    redis.call('HSET', KEYS[14], ARGV[13], now)
end
if KEYS[19] then
    local first = ARGV[17] .. generation .. ' ' .. id .. ' ' .. ARGV[4]
    if ARGV[20] ~= '' then
        first = first .. ' ' .. ARGV[20]
    end
    redis.call('SET', KEYS[19], first, 'EX', ARGV[18])
    local life = tonumber(ARGV[18])
    local step = math.ceil(life / 24)
    local ends = string.format('%.0f', (math.floor((now / 1000 + life) / step) + 1) * step)
    if redis.call('HINCRBY', KEYS[20], ends, 1) == 1 then
        redis.call('EXPIRE', KEYS[20], life + step)
        if #forgotten > 0 then
            redis.call('HDEL', KEYS[20], unpack(forgotten))
        end
    end
end
return {'accepted', now, generation, id, count, limit, used}
