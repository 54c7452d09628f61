-- Ends a change of the admins, unless its time is over and another goes on.
--
-- KEYS[1]  <prefix>accounts:lock, string
-- ARGV[1]  token of the change
--
-- When Redis is full: goes on.
-- Returns 1 if it was ended, else 0.
local lock, token = KEYS[1], ARGV[1]

if redis.call('GET', lock) ~= token then
  return 0
end
return redis.call('DEL', lock)
