-- The queue's side of a dataset's ledger, at one moment.
--
-- KEYS  1 generation   2 stream   3 accepted   4 queued   5 replayed   6 trimmed
-- ARGV  1 last stream id that the table may have   2... ids of quarantine rows
--
-- RETURN {generation or '', accepted, queued, trimmed, positions in ARGV (from 1) of rows replayed, entries}
--        the entries are those up to that stream id: {stream id of its acceptance, trace id, records, stream id}
--
-- Entries up to that stream id are few: a drain trims after each commit.

local untrimmed = {}
local from = '-'
while true do
    local entries = redis.call('XRANGE', KEYS[2], from, ARGV[1], 'COUNT', 500)
    for _, entry in ipairs(entries) do
        local fields = {}
        for at = 1, #entry[2], 2 do
            fields[entry[2][at]] = entry[2][at + 1]
        end
        local count = tonumber(fields['n'] or '0')
        untrimmed[#untrimmed + 1] = {fields['o'] or entry[1], fields['t'] or '', count, entry[1]}
    end
    if #entries < 500 then
        break
    end
    from = '(' .. entries[#entries][1]
end
local replayed = {}
for at = 2, #ARGV do
    if redis.call('HEXISTS', KEYS[5], ARGV[at]) == 1 then
        replayed[#replayed + 1] = at - 1
    end
end
return {
    redis.call('GET', KEYS[1]) or '',
    tonumber(redis.call('GET', KEYS[3]) or '0'),
    tonumber(redis.call('GET', KEYS[4]) or '0'),
    redis.call('GET', KEYS[6]) or '0',
    replayed,
    untrimmed,
}
