-- read: the next entries of a mailbox, for the connection that is its member's
-- live socket. (After generations.lua, mailbox.lua and owner.lua.)
--
-- KEYS[1] mailbox:{member}        stream
-- KEYS[2] presence:{member}       hash
-- KEYS[3] mailbox:{member}:usage  hash
-- KEYS[4] mailbox:{member}:generations  string
-- ARGV[1] conn, ARGV[2] the seq to read after
-- ARGV[3] most entries, ARGV[4] most bytes of payload (one entry may pass it)
-- ARGV[5] µs, when the connection joined, as join.lua said
--
-- When Redis is full: goes on, also where it gives new numbers.
-- Returns {owner, more, newest, seq, payload, seq, payload, …}: owner is as
-- owner.lua has it; more is 1 when entries follow the ones returned, and 2 when
-- they do because ARGV[2] was foreign and they have new numbers; newest is the
-- newest seq, said only when none is returned and none follows, else '0'.
local mailbox, presence, usage, generations = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local conn, after, was = ARGV[1], ARGV[2], tonumber(ARGV[2])
local most, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local chunk = 8 -- entries held here at a time, each perhaps a megabyte

local owner = owner_of(presence, conn, ARGV[5])
if owner == 0 then return {0, 0, '0'} end
local out = {owner, 0, '0'}

-- deliver_again makes all that there is follow when what the socket has is foreign.
local function deliver_again(last)
  if judge(mailbox, generations, was, last) ~= 'foreign' then return false end
  redis.call('HDEL', presence, '') -- nothing, and not refused
  renumber(mailbox, usage, generations, was)
  out[2] = 2
  return true
end

-- Where all that is held comes after, nothing can be left out; an entry that is
-- near is of the same generation.
local held = redis.call('XREVRANGE', mailbox, '0-' .. after, '-', 'COUNT', 1)[1]
if held and was - tonumber(string.sub(held[1], 3)) > tail and deliver_again(newest(mailbox)) then return out end

local read, size = 0, 0
local from = '(0-' .. after
while true do
  local entries = redis.call('XRANGE', mailbox, from, '+', 'COUNT', chunk)
  for _, entry in ipairs(entries) do
    if read > 0 and (read >= most or size + #entry[2][2] > bytes) then
      out[2] = 1
      return out
    end
    out[#out + 1] = string.sub(entry[1], 3)
    out[#out + 1] = entry[2][2]
    read, size = read + 1, size + #entry[2][2]
    from = '(' .. entry[1]
  end
  if #entries < chunk then break end
end

if read == 0 then
  local last = newest(mailbox)
  if last < was and deliver_again(last) then return out end
  out[3] = text(last)
end
return out
