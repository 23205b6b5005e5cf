-- Acquire, renew or release a lock by its token.
--
-- RETURN 1 if the token holds the lock (or held it, if released), else 0

assert(#KEYS == 1 and #ARGV == 3, 'lock.lua: wrong number of KEYS or ARGV')
local lock_key = KEYS[1]
local token, action, lease_ms = unpack(ARGV) -- action: acquire, renew or release

if action == 'acquire' then
    -- After a failover to a server whose clock is behind, a lock would last longer than any lease. Ignore such a lock.
    if redis.call('PTTL', lock_key) > tonumber(lease_ms) then
        redis.call('DEL', lock_key)
    end
    return redis.call('SET', lock_key, token, 'NX', 'PX', lease_ms) and 1 or 0
end
if redis.call('GET', lock_key) ~= token then
    return 0
end
if action == 'renew' then
    return redis.call('PEXPIRE', lock_key, lease_ms)
end
return redis.call('DEL', lock_key)
