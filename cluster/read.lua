-- read: the next entries of a mailbox, for the connection that is its member's
-- live socket. (After mailbox.lua.)
--
-- KEYS[1] mailbox:{member}        stream
-- KEYS[2] presence:{member}       hash
-- KEYS[3] mailbox:{member}:usage  hash
-- ARGV[1] conn, ARGV[2] the seq to read after
-- ARGV[3] most entries, ARGV[4] most bytes of payload (one entry may pass it)
--
-- When Redis is full: goes on, also where it gives new numbers.
-- Returns {owner, more, newest, seq, payload, seq, payload, …}: owner is 1 when
-- ARGV[1] is the member's live socket, 0 when another is, -1 when none is
-- recorded; more is 1 when entries follow the ones returned; newest is the
-- newest seq, said only when none is returned and none follows, else '0'.
local mailbox, presence, usage = KEYS[1], KEYS[2], KEYS[3]
local conn, after = ARGV[1], ARGV[2]
local most, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local chunk = 8 -- entries held here at a time, each perhaps a megabyte

local live = redis.call('HGET', presence, 'conn')
local owner = -1
if live then owner = live == conn and 1 or 0 end
if owner == 0 then return {0, 0, '0'} end

local out = {owner, 0, '0'}
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
  local was = tonumber(after)
  local last = newest(mailbox)
  if last > 0 and last < was then
    redis.call('HDEL', presence, '') -- nothing, and not refused
    raise(mailbox, usage, was)
    out[2] = 1 -- read again: what was renumbered now follows
    return out
  end
  out[3] = text(last)
end
return out
