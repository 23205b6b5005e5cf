-- Count records as accepted that this Redis has forgotten and the table has: it was restored from an older copy.
--
-- KEYS  1 generation   2 accepted   3 total accepted   4 trimmed
-- ARGV  1 generation   2 trimmed, as it was read (0 if absent)   3 records (may be 0)   4 the table's position
--
-- RETURN 1; 0 if another drain was faster

if redis.call('GET', KEYS[1]) ~= ARGV[1] or (redis.call('GET', KEYS[4]) or '0') ~= ARGV[2] then
    return 0
end
redis.call('INCRBY', KEYS[2], ARGV[3])
redis.call('INCRBY', KEYS[3], ARGV[3])
redis.call('SET', KEYS[4], ARGV[4])
return 1
