-- check: whether a connection is its member's live socket, and what there is for
-- it. (After generations.lua and owner.lua.)
--
-- KEYS[1] presence:{member}  hash
-- KEYS[2] mailbox:{member}   stream
-- ARGV[1] conn
-- ARGV[2] µs, when it joined, as join.lua said
--
-- When Redis is full: goes on, writes nothing.
-- Returns {owner, as owner.lua has it, and the newest seq, '0' when the mailbox
-- holds nothing}.
local presence, mailbox = KEYS[1], KEYS[2]

local last = 0
if redis.call('XLEN', mailbox) > 0 then last = newest(mailbox) end
return {owner_of(presence, ARGV[1], ARGV[2]), text(last)}
