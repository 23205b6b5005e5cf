-- Take what has been written to the database off a month's delta.
--
-- KEYS  1 usage_total   2 usage_delta   3 usage_dirty
-- ARGV  1 the total that was written    2 the member of usage_dirty
--
-- RETURN the delta that is left: what was charged beyond the total that was written
--
-- The total is compared, not the delta lowered: of two flushes that wrote the same records, the second would take off
-- what was charged between the two. A flush that was overtaken by another leaves more than is true, and the user dirty;
-- the next flush puts that right.

local left = tonumber(redis.call('GET', KEYS[1]) or '0') - tonumber(ARGV[1])
if left > 0 then
    redis.call('SET', KEYS[2], string.format('%.0f', left))
    redis.call('SADD', KEYS[3], ARGV[2])
    return left
end
redis.call('DEL', KEYS[2])
redis.call('SREM', KEYS[3], ARGV[2])
return 0
