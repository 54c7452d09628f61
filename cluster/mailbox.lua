-- mailbox: what join.lua and read.lua share; it stands before each of them, after
-- generations.lua.

-- renumber begins a generation beyond seq, and gives all that the stream holds new
-- numbers there, so that it is delivered: what of it a member has that has seen a
-- foreign seq cannot be told. The next append counts it again. Returns the newest
-- seq.
local function renumber(mailbox, usage, generations, seq)
  local entries, number = redis.call('XRANGE', mailbox, '-', '+'), {}
  local last = newest(mailbox)
  local first = first_of(math.max(last, seq), true)
  local life = redis.call('PTTL', mailbox)
  if #entries == 0 then redis.call('XADD', mailbox, '0-' .. text(first), 'payload', '') end
  for i, entry in ipairs(entries) do
    local new = text(first + i - 1)
    number[string.sub(entry[1], 3)] = new
    local fields = entry[2]
    -- An entry's link is the seqs of others, see usage.lua.
    if fields[8] and string.match(fields[8], '^%d') then fields[8] = string.gsub(fields[8], '%d+', number) end
    redis.call('XADD', mailbox, '0-' .. new, unpack(fields))
  end
  redis.call('XTRIM', mailbox, 'MINID', '0-' .. text(#entries == 0 and first + 1 or first))
  redis.call('HDEL', usage, 'entries')
  begin(generations, redis.call('GET', generations), reign(), last, first)
  if life > 0 then redis.call('PEXPIRE', generations, life) end
  return first + math.max(#entries, 1) - 1
end

