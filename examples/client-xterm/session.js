// The reference's client expects to find `sessionId`. Here it comes from the address, as in /?session=fix-login.
globalThis.sessionId = new URLSearchParams(location.search).get('session');
