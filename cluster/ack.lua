-- ack: forget what the member's live socket has received.
--
-- KEYS[1] presence:{member}  hash
-- KEYS[2] mailbox:{member}   stream
-- ARGV[1] conn, ARGV[2] seq received, ARGV[3] the seq after it
--
-- When Redis is full: goes on.
-- Returns 1 when done; 0 when another connection is the live socket, -1 when
-- none is recorded, and then nothing changes.
local presence, mailbox = KEYS[1], KEYS[2]
local conn, seq, following = ARGV[1], ARGV[2], ARGV[3]

local live = redis.call('HGET', presence, 'conn')
if not live then return -1 end
if live ~= conn then return 0 end
redis.call('XTRIM', mailbox, 'MINID', '0-' .. following)
redis.call('HSET', presence, 'acked', seq)
return 1
