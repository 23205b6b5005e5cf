-- Move an entry to the end of its stream, under a new id.
--
-- KEYS  1 generation   2 stream
-- ARGV  1 generation   2 stream id   3 mark of the entry (its trace id, or '' for any)
--
-- RETURN the new id; false if the entry is not there
--
-- For an entry whose id is another record's: Redis forgot that record, and its clock went back to the same millisecond.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return false
end
local found = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])
if #found == 0 then
    return false
end
local fields = {}
for at = 1, #found[1][2], 2 do
    local name, value = found[1][2][at], found[1][2][at + 1]
    if name == 't' and ARGV[3] ~= '' and value ~= ARGV[3] then
        return false
    end
    if name ~= 'o' then
        fields[#fields + 1] = name
        fields[#fields + 1] = value
    end
end
local id = redis.call('XADD', KEYS[2], '*', unpack(fields)) -- first: a server that is out of memory refuses it
redis.call('XDEL', KEYS[2], ARGV[2])
return id
