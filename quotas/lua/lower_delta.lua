-- Take what has been written to the database off a month's delta.
--
-- KEYS  1 usage_delta   2 usage_dirty
-- ARGV  1 records written   2 the member of usage_dirty
--
-- RETURN the delta that is left
--
-- Never below 0: of two flushes that wrote the same records, the second finds them gone. A member is removed only
-- together with its delta, so a charge between read and flush is never forgotten.

local left = tonumber(redis.call('GET', KEYS[1]) or '0') - tonumber(ARGV[1])
if left > 0 then
    redis.call('DECRBY', KEYS[1], ARGV[1])
    return left
end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[2])
return 0
