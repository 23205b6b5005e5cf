-- Move an entry to the end of its stream, where it gets a new ID. Its field `r` keeps the ID that it had first.
--
-- RETURN the new ID; false if the entry is not in the stream, or Redis has another generation
--
-- This is needed if another record in the table has the entry's ID. This happens if Redis has lost the entry of that
-- record, and its clock was then set back to the same millisecond.
-- The first ID of a replay is in its field `o`. The replay is stored under its new ID, so the script removes `o`.

assert(#KEYS == 2 and #ARGV == 3, 'renumber.lua: wrong number of KEYS or ARGV')
local generation_key, stream_key = unpack(KEYS)
local generation,
    stream_id,
    mark -- the entry's trace ID, or '' for any trace ID
    = unpack(ARGV)

if redis.call('GET', generation_key) ~= generation then
    return false
end
local found = redis.call('XRANGE', stream_key, stream_id, stream_id)
if #found == 0 then
    return false
end
local names_and_values = found[1][2]
local fields = {}
local first_id = stream_id
local is_renumbered = false
for at = 1, #names_and_values, 2 do
    local name, value = names_and_values[at], names_and_values[at + 1]
    if name == 't' and mark ~= '' and value ~= mark then
        return false
    end
    is_renumbered = is_renumbered or name == 'r'
    if name == 'o' then
        first_id = value
    else
        fields[#fields + 1] = name
        fields[#fields + 1] = value
    end
end
if not is_renumbered then
    fields[#fields + 1] = 'r'
    fields[#fields + 1] = first_id
end
-- If Redis has no memory, it refuses XADD. So XADD comes first.
local new_id = redis.call('XADD', stream_key, '*', unpack(fields))
redis.call('XDEL', stream_key, stream_id)
return new_id
