-- Writes a key record over the version it was made from. A keygen that begins
-- anew drops the shares of the one that failed.
-- KEYS[1] = conclave:key:{id}          hash
-- KEYS[2] = conclave:key:{id}:shares   hash
-- ARGV[1] = version that the change was made from, 0 for a new key
-- ARGV[2] = ms to keep the record and the shares from now on, 0 for ever
-- ARGV[3] = 1 to drop the shares
-- ARGV[4] = 1 to write also when Redis is full: the key is there, and this ends its keygen
-- ARGV[5] = ..., field and value pairs of the record
-- When Redis is full: refused; goes on with ARGV[4]
-- returns  1; 0 if the version has moved on
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= ARGV[1] then
  return 0
end
if ARGV[4] == '1' then
  redis.call('HDEL', KEYS[1], '') -- nothing, and not refused
end
-- A command may fail (a right was withdrawn). The record changes last: whoever
-- reads the new one must be able to rely on how long it and its shares are kept.
local new = redis.call('EXISTS', KEYS[1]) == 0
redis.call('HSET', KEYS[1], 'version', version) -- as it is: whether it can be written
local done, why = pcall(function()
  if ARGV[3] == '1' then
    redis.call('DEL', KEYS[2])
  end
  for i = 1, 2 do
    if tonumber(ARGV[2]) > 0 then
      redis.call('PEXPIRE', KEYS[i], ARGV[2])
    else
      redis.call('PERSIST', KEYS[i])
    end
  end
end)
if not done then
  if new then
    redis.pcall('HDEL', KEYS[1], 'version') -- nothing is left
  end
  return type(why) == 'table' and why or redis.error_reply(tostring(why))
end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
return 1
