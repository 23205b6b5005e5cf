-- Return what Redis keeps with an Idempotency-Key, and write to the key without changing it: WAIT waits only for what
-- its own connection has written.
--
-- RETURN the value, or nil

assert(#KEYS == 1 and #ARGV == 0, 'find_key.lua: wrong number of KEYS or ARGV')
local found = redis.call('GET', KEYS[1])
if found then
    redis.call('PEXPIRE', KEYS[1], redis.call('PTTL', KEYS[1]))
end
return found
