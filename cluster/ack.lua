-- ack: forget what the member's live socket has received. (After usage.lua.)
--
-- KEYS[1] presence:{member}       hash
-- KEYS[2] mailbox:{member}        stream
-- KEYS[3] mailbox:{member}:usage  hash, see usage.lua
-- ARGV[1] conn, ARGV[2] seq received, ARGV[3] the seq after it
-- ARGV[4] how many entries there must be in the mailbox of a member with a
--         socket before they are counted
--
-- When Redis is full: goes on.
-- Returns 1 when done; 0 when another connection is the live socket, -1 when
-- none is recorded, and then nothing changes.
local presence, mailbox, usage = KEYS[1], KEYS[2], KEYS[3]
local conn, seq, following = ARGV[1], ARGV[2], ARGV[3]

local live = redis.call('HGET', presence, 'conn')
if not live then return -1 end
if live ~= conn then return 0 end

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
redis.call('HSET', presence, 'acked', seq)
return 1
