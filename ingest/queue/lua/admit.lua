-- Admit one request to a dataset's queue: check everything that must hold, then charge, queue and mark the dataset as
-- pending. The script does all of this or nothing, because every check comes before the first write. (It also writes
-- `room`, but this is only a cached value, see below.)
--
-- A request has 18 keys and 16 arguments. If it has optional parts, argument 17 has a letter for each of them, and the
-- keys and arguments of the parts follow in this order:
--      i   an Idempotency-Key: two keys, four arguments
--      g   some records have the old form, in a grace period: one key, five arguments
--      r   the API key has a rate limit: one key, two arguments
--      w   the web process sends WAIT after this script, to wait for replicas: no key, no argument
--
-- RETURN {outcome, server time in ms, ...}
--      accepted, time, generation, stream ID, number of records, limit, used
--      repeated, time, generation, stream ID, number of records, limit, used, rejected
--                          an earlier request had this Idempotency-Key and this body: its generation, stream ID,
--                          number of records and `rejected`, but the present `limit` and `used`
--      stale               the contract has changed, or the grace period has ended: read the contract again
--      not_written         the request was admitted before, but Redis refuses the write that WAIT needs
--      late                the deadline has passed, or a later request has used the slot: nothing was changed
--      unseeded            a quota counter is missing, or Redis has another generation than `known_generation`: restore
--                          the counters, read the generation, and call again
--      key_reused          an earlier request had this Idempotency-Key and another body
--      over_quota, time, limit, used
--      full, time, what    `what` is dataset, project or all if their backlog has reached its limit, or memory if Redis
--                          has no room for a longer backlog
--      too_many_keys, time, seconds until Redis forgets the oldest Idempotency-Keys
--      too_fast, time, seconds until the rate limit has room, records of the last `rate_seconds`
--
-- A web process that loses the reply sends the command again with the same number. If the first attempt was accepted,
-- the script returns its reply again, but with the present quota. If the number is below the number of the slot, the
-- process has canceled this admission, so the script changes nothing.
--
-- Admission stops when Redis uses about 80 % of `maxmemory`, so that drains and the changes of admins always fit. INFO
-- takes half as much time as the rest of the script. So the script calls INFO only once a second. It then computes
-- `room` and keeps it: until the next INFO, the script admits requests up to this number of queued bytes. `room` is the
-- number of bytes queued now, plus half of the memory that is free below 80 %, because an entry takes more memory than
-- its body. If less than 1 % of `maxmemory` is free below 80 %, nothing is admitted. If there is no `maxmemory`, or the
-- server hides it, `room` has no limit: the script admits requests until Redis refuses a write.
--
-- The script sums up the bytes of a project only if the backlog is long enough for a project to exceed its share.
--
-- Example: 2 records for dataset 13 of user 7, who has used 10 of 1000 records, return
--      {'accepted', 1764000000123, 'b61c…', '1764000000123-0', 2, 1000, 12}

local revision_key, limit_key, used_key, delta_key, generation_key, accepted_key, queued_key, bytes_key,
    total_bytes_key, total_accepted_key, stream_key, pending_key, dirty_key, last_used_key, slots_key, room_key,
    turns_key, slot_key = unpack(KEYS, 1, 18)

local known_revision, -- the contract's revision when the web process read the contract
    number, -- the number of this request in its slot. It rises by one with each request
    deadline, -- the script must run before this time, in ms by this server's clock
    count, -- number of records
    dataset_id,
    dirty_member, -- <userId>:YYYY-MM
    version_id, -- ID of the schema version
    format, -- o (object), a (array) or l (lines)
    trace_id,
    body,
    max_bytes, -- maximum number of queued bytes of a dataset
    max_total_bytes, -- maximum number of queued bytes of all datasets together
    api_key_id, -- the script writes the time of this key's use; '' if it has to write none
    project_id,
    share, -- a project may take this share of the backlog that other projects leave free
    known_generation -- the generation that the web process read last
    = unpack(ARGV, 1, 16)

local idempotency_key, known_keys_key, digest, key_seconds, max_keys, rejected
local grace_key, grace_ends, sender, by_earlier, earlier, counted_seconds
local rate_key, rate, rate_seconds
local is_replicated
local last_key, last_arg = 18, 16
if #ARGV > 16 then
    local parts = ARGV[17]
    last_arg = 17
    is_replicated = string.find(parts, 'w')
    if string.find(parts, 'i') then
        idempotency_key, known_keys_key = unpack(KEYS, 19, 20)
        digest, -- `formats.Retryable.digest`, 8 bytes
            key_seconds, -- Redis keeps an Idempotency-Key for this time
            max_keys, -- maximum number of Idempotency-Keys that a project may use in `key_seconds`
            rejected -- what the answer says about the refused records of a lenient batch; '' if it is not lenient
            = unpack(ARGV, 18, 21)
        last_key, last_arg = 20, 21
    end
    if string.find(parts, 'g') then
        grace_key = KEYS[last_key + 1]
        grace_ends, -- the end of the grace period, in ms by this server's clock
            sender, -- ID of the API key
            by_earlier, -- number of records that have the old form
            earlier, -- `formats.Earlier.text`; '' if all records have the old form: then `version_id` is its version
            counted_seconds -- Redis keeps the counts of senders for this time after the last change
            = unpack(ARGV, last_arg + 1, last_arg + 5)
        last_key, last_arg = last_key + 1, last_arg + 5
    end
    if string.find(parts, 'r') then
        rate_key = KEYS[last_key + 1]
        rate, -- number of records that the API key may send in `rate_seconds`
            rate_seconds
            = unpack(ARGV, last_arg + 1, last_arg + 2)
        last_key, last_arg = last_key + 1, last_arg + 2
    end
end
assert(#KEYS == last_key and #ARGV == last_arg, 'admit.lua: wrong number of KEYS or ARGV')

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Redis needs about as much time to start a command as to do its work. So one MGET reads all values, and one MSET
-- writes the sums.
local seen = redis.call(
    'MGET', revision_key, limit_key, used_key, delta_key, generation_key, accepted_key, queued_key, bytes_key,
    total_bytes_key, total_accepted_key, room_key, slot_key
)
local revision, limit, used, delta, generation, accepted, queued, bytes, total_bytes, total_accepted, room, slot =
    unpack(seen)

-- Write to a key without changing it: WAIT waits only for what its own connection has written, and the first request
-- may have used another connection. These commands also work if Redis has no free memory. Return false if Redis has
-- refused them.
local function write_again(key)
    local left = redis.call('PTTL', key)
    local done = redis.pcall('PEXPIRE', key, left < 0 and 60000 or left)
    if left < 0 and type(done) == 'number' then
        redis.call('PERSIST', key)
    end
    return type(done) == 'number'
end

if slot then
    local last_number, last_id = string.match(slot, '(%S+) (%S+)')
    last_number = tonumber(last_number)
    local this_number = tonumber(number)
    if last_number == this_number then
        if is_replicated and not write_again(slot_key) then
            return {'not_written', now}
        end
        return {'accepted', now, generation, last_id, tonumber(count), tonumber(limit or -1), tonumber(used or 0)}
    elseif last_number > this_number then
        return {'late', now}
    end
end
if now > tonumber(deadline) then
    return {'late', now}
end
if revision ~= known_revision or grace_key and now >= tonumber(grace_ends) then
    return {'stale', now}
end
if not limit or not used or generation ~= known_generation then
    return {'unseeded', now}
end

local records = tonumber(count)
limit = tonumber(limit)
used = tonumber(used)

if idempotency_key then
    local first = redis.call('GET', idempotency_key)
    if first then
        if string.sub(first, 1, 8) ~= digest then
            return {'key_reused', now}
        end
        if is_replicated and not write_again(idempotency_key) then
            return {'not_written', now}
        end
        local first_generation, first_id, first_count, first_rejected =
            string.match(first, '^(%S+) (%S+) (%d+) ?(.*)', 9)
        return {'repeated', now, first_generation, first_id, tonumber(first_count), limit, used, first_rejected}
    end
end
if limit ~= -1 and used + records > limit then
    return {'over_quota', now, limit, used}
end
-- The hash of an API key: second of acceptance -> number of records. A second counts until all of it is older than
-- `rate_seconds`, so no time of `rate_seconds` has more than `rate` records of the key.
local old_seconds = {}
if rate_key then
    local oldest = time[1] - rate_seconds
    -- Later seconds were counted before a failover to a server whose clock is behind.
    local latest = time[1] + rate_seconds
    local counts, sent = {}, 0
    local found = redis.call('HGETALL', rate_key)
    for at = 1, #found, 2 do
        local second, number_of_records = tonumber(found[at]), tonumber(found[at + 1])
        if second < oldest or second > latest then
            old_seconds[#old_seconds + 1] = found[at]
        else
            counts[#counts + 1] = {second, number_of_records}
            sent = sent + number_of_records
        end
    end
    if sent + records > tonumber(rate) then
        table.sort(counts, function(one, other) return one[1] < other[1] end)
        local left, until_second = sent, oldest
        for _, each in ipairs(counts) do
            if left + records <= tonumber(rate) then
                break
            end
            left = left - each[2]
            until_second = each[1] + 1
        end
        return {'too_fast', now, until_second - oldest, sent}
    end
end
local size = #body
local new_bytes = (bytes or 0) + size
local new_total_bytes = (total_bytes or 0) + size
if not room then
    local memory = redis.pcall('INFO', 'memory')
    local max_memory = type(memory) == 'string' and tonumber(string.match(memory, '[\r\n]maxmemory:(%d+)')) or 0
    room = 9007199254740992
    if max_memory > 0 then
        local free = max_memory * 0.8 - tonumber(string.match(memory, '[\r\n]used_memory:(%d+)'))
        room = new_total_bytes - size + (free > max_memory * 0.01 and math.floor(free / 2) or 0)
    end
    redis.call('SET', room_key, string.format('%.0f', room), 'PX', 1000)
end
room = tonumber(room)
max_total_bytes = tonumber(max_total_bytes)
if new_bytes > tonumber(max_bytes) then
    return {'full', now, 'dataset'}
elseif new_total_bytes > max_total_bytes then
    return {'full', now, 'all'}
elseif new_total_bytes > room then
    return {'full', now, 'memory'}
end
share = tonumber(share)
local max_backlog = math.min(max_total_bytes, room)
if new_total_bytes > share * max_backlog then
    local of_project = size
    local dataset_ids = redis.call('ZRANGE', pending_key, 0, -1)
    local prefix = string.gsub(bytes_key, '%d+$', '') -- a counter's name is this and the dataset's ID
    for from = 1, #dataset_ids, 1000 do
        local keys = {}
        for at = from, math.min(from + 999, #dataset_ids) do
            keys[#keys + 1] = prefix .. dataset_ids[at]
        end
        for _, dataset_bytes in ipairs(redis.call('MGET', unpack(keys))) do
            of_project = of_project + tonumber(dataset_bytes or 0)
        end
    end
    if of_project > share * (max_backlog - new_total_bytes + of_project) then
        return {'full', now, 'project'}
    end
end
-- The hash of a project's Idempotency-Keys: time at which Redis forgets keys -> number of these keys. The times are
-- rounded up to steps of a 24th of `key_seconds`. So the count includes keys that Redis forgot since the last step.
local forgotten
if idempotency_key then
    local keys, next_end = 0, nil
    forgotten = {}
    local steps = redis.call('HGETALL', known_keys_key)
    for at = 1, #steps, 2 do
        local ends = tonumber(steps[at])
        if ends * 1000 > now then
            keys = keys + tonumber(steps[at + 1])
            next_end = math.min(next_end or ends, ends)
        else
            forgotten[#forgotten + 1] = steps[at]
        end
    end
    if keys >= tonumber(max_keys) then
        return {'too_many_keys', now, math.ceil(next_end - now / 1000)}
    end
end

-- All checks have passed. If Redis has no memory, it refuses the first write, so nothing was changed. It never refuses
-- a later write of this script.
local id
if grace_key and earlier ~= '' then
    id = redis.call(
        'XADD', stream_key, '*', 'b', body, 'f', format, 'n', count, 'v', version_id, 't', trace_id, 'e', earlier
    )
else
    id = redis.call('XADD', stream_key, '*', 'b', body, 'f', format, 'n', count, 'v', version_id, 't', trace_id)
end
used = used + records
-- MSET removes the time to live of the month's total. The next flush sets it again.
redis.call(
    'MSET', used_key, used, delta_key, (delta or 0) + records, accepted_key, (accepted or 0) + records,
    queued_key, (queued or 0) + records, bytes_key, new_bytes, total_bytes_key, new_total_bytes,
    total_accepted_key, (total_accepted or 0) + records, slot_key, number .. ' ' .. id
)
if (delta or '0') == '0' then
    redis.call('SADD', dirty_key, dirty_member)
end
if redis.call('ZADD', pending_key, 'NX', now, dataset_id) == 1 then
    redis.call('ZADD', turns_key, 'LT', now, project_id)
end
if not slot then
    redis.call('SADD', slots_key, slot_key)
end
if api_key_id ~= '' then
    redis.call('HSET', last_used_key, api_key_id, now)
end
if grace_key then
    redis.call('HINCRBY', grace_key, 'records:' .. sender, by_earlier)
    redis.call('HSET', grace_key, 'last:' .. sender, now)
    redis.call('EXPIRE', grace_key, counted_seconds)
end
if rate_key then
    if #old_seconds > 0 then
        redis.call('HDEL', rate_key, unpack(old_seconds))
    end
    redis.call('HINCRBY', rate_key, time[1], count)
    redis.call('EXPIRE', rate_key, rate_seconds + 2)
end
if idempotency_key then
    local first = digest .. generation .. ' ' .. id .. ' ' .. count
    if rejected ~= '' then
        first = first .. ' ' .. rejected
    end
    redis.call('SET', idempotency_key, first, 'EX', key_seconds)
    local life = tonumber(key_seconds)
    local step = math.ceil(life / 24)
    local ends = string.format('%.0f', (math.floor((now / 1000 + life) / step) + 1) * step)
    if redis.call('HINCRBY', known_keys_key, ends, 1) == 1 then
        redis.call('EXPIRE', known_keys_key, life + step)
        if #forgotten > 0 then
            redis.call('HDEL', known_keys_key, unpack(forgotten))
        end
    end
end
return {'accepted', now, generation, id, records, limit, used}
