-- Acquire, renew or release a lock by its token. Count the drains in a row that acquired it and never released it.
--
-- RETURN 1 if the token holds the lock (or held it, if released), else 0

assert(#KEYS == 2 and #ARGV == 3, 'lock.lua: wrong number of KEYS or ARGV')
local lock_key, deaths_key = unpack(KEYS)
local token, action, lease_ms = unpack(ARGV) -- action: acquire, renew or release

if action == 'acquire' then
    -- After a failover to a server whose clock is behind, a lock would last longer than any lease. Ignore such a lock.
    if redis.call('PTTL', lock_key) > tonumber(lease_ms) then
        redis.call('DEL', lock_key)
    end
    if not redis.call('SET', lock_key, token, 'NX', 'PX', lease_ms) then
        return 0
    end
    return redis.call('HINCRBY', deaths_key, 'deaths', 1) and 1
end
if redis.call('GET', lock_key) ~= token then
    return 0
end
if action == 'renew' then
    return redis.call('PEXPIRE', lock_key, lease_ms)
end
redis.call('HDEL', deaths_key, 'deaths')
return redis.call('DEL', lock_key)
