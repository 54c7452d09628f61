-- ack: forget what the member's live socket has received. (After usage.lua,
-- generations.lua and owner.lua.)
--
-- KEYS[1] presence:{member}       hash
-- KEYS[2] mailbox:{member}        stream
-- KEYS[3] mailbox:{member}:usage  hash, see usage.lua
-- KEYS[4] mailbox:{member}:generations  string
-- ARGV[1] conn, ARGV[2] seq received, ARGV[3] the seq after it
-- ARGV[4] how many entries there must be in the mailbox of a member with a
--         socket before they are counted
-- ARGV[5] µs, when the connection joined, as join.lua said
--
-- When Redis is full: goes on.
-- Returns 1 when done; 0 when a newer connection is the live socket, -1 when
-- none is recorded, 2 when seq is foreign (see generations.lua): it tells nothing
-- about what is held. Unless it is 1 nothing changes.
local presence, mailbox, usage, generations = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local conn, seq, following = ARGV[1], ARGV[2], ARGV[3]

local owner = owner_of(presence, conn, ARGV[5])
if owner ~= 1 then return owner end

local held = redis.call('XREVRANGE', mailbox, '0-' .. seq, '-', 'COUNT', 1)[1]
if held then
  -- An entry that is near is of the same generation.
  if seq - string.sub(held[1], 3) > tail and judge(mailbox, generations, tonumber(seq), newest(mailbox)) == 'foreign' then return 2 end
  local account
  if redis.call('EXISTS', usage) == 1 then
    account = account_of(mailbox, usage)
    if not account.trim(seq, tonumber(ARGV[4])) then
      redis.call('DEL', usage) -- little is left
      account = nil
    end
  end
  redis.call('XTRIM', mailbox, 'MINID', '0-' .. following)
  if account then account.save() end
end
redis.call('HDEL', presence, '') -- nothing, and not refused
redis.call('HSET', presence, 'acked', seq)
return 1
