-- Claim, renew or release a lock by its token.
--
-- KEYS  1 lock
-- ARGV  1 token   2 claim, renew or release   3 lease in ms
--
-- RETURN 1 if the lock is (or was) ours, else 0

if ARGV[2] == 'claim' then
    return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[3]) and 1 or 0
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
if ARGV[2] == 'renew' then
    return redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return redis.call('DEL', KEYS[1])
