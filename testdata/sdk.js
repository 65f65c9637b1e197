// Reads a JSON line for each body from standard input and answers with one: what
// the official SDK signs, and whether it accepts what we signed.
const cloudinary = require('cloudinary').v2;
const lines = require('readline').createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const { body, timestamp, secret, algorithm, signature } = JSON.parse(line);
  cloudinary.config({ api_secret: secret, signature_algorithm: algorithm });
  console.log(JSON.stringify({
    signature: cloudinary.utils.webhook_signature(body, timestamp, { api_secret: secret, signature_algorithm: algorithm }),
    accepted: cloudinary.utils.verifyNotificationSignature(body, timestamp, signature),
  }));
});
