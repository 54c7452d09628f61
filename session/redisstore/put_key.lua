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
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
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
return 1
