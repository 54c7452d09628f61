-- leave: remove a member's presence if it still is that of the connection.
--
-- KEYS[1] presence:{member}  hash
-- ARGV[1] conn
--
-- When Redis is full: goes on.
-- Returns 1 when removed, 0 when it is another's or gone.
local presence, conn = KEYS[1], ARGV[1]

if redis.call('HGET', presence, 'conn') ~= conn then return 0 end
return redis.call('DEL', presence)
