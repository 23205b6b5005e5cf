-- Count a refused request.
--
-- KEYS  1 refused   2 refused by hour, of the project
-- ARGV  1 error code   2 <hour>:<error code>
--
-- RETURN how often the code was counted

redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
