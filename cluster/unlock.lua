-- unlock: give a lock up if it still is its holder's.
--
-- KEYS[1] lock:{id}  string, the token of its holder
-- ARGV[1] token
--
-- When Redis is full: goes on.
-- Returns 1 when it was, 0 when it is another's or had ended.
local lock, token = KEYS[1], ARGV[1]

if redis.call('GET', lock) ~= token then return 0 end
return redis.call('DEL', lock)
