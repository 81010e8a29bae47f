// scimmy-routers on Express over a Map: `node scimmy_app.js PORT TOKEN`.
// The library brings no store, so this is the least one: users by id, userName kept unique, and its
// own filter over all of them. One lookup of the names spares creation the walk.
import { randomUUID } from "node:crypto";
import express from "express";
import SCIMMY from "scimmy";
import SCIMMYRouters from "scimmy-routers";

const [port, token] = process.argv.slice(2);
const users = new Map();
const names = new Map();

SCIMMY.Resources.declare(SCIMMY.Resources.User)
    .extend(SCIMMY.Schemas.EnterpriseUser, false)
    .ingress((resource, instance) => {
        const id = resource.id ?? randomUUID();
        const known = users.get(id);
        if (resource.id && !known) throw new SCIMMY.Types.Error(404, null, `There is no user ${id}`);
        const name = instance.userName.toLowerCase();
        if ((names.get(name) ?? id) !== id) {
            throw new SCIMMY.Types.Error(409, "uniqueness", "This userName is taken");
        }
        const now = new Date();
        const user = { ...instance, id, meta: { created: known?.meta.created ?? now, lastModified: now } };
        if (known) names.delete(known.userName.toLowerCase());
        names.set(name, id);
        users.set(id, user);
        return user;
    })
    .egress((resource) => {
        if (resource.id) {
            const user = users.get(resource.id);
            if (!user) throw new SCIMMY.Types.Error(404, null, `There is no user ${resource.id}`);
            return user;
        }
        const all = [...users.values()];
        return resource.filter ? resource.filter.match(all) : all;
    })
    .degress((resource) => {
        const user = users.get(resource.id);
        if (!user) throw new SCIMMY.Types.Error(404, null, `There is no user ${resource.id}`);
        names.delete(user.userName.toLowerCase());
        users.delete(resource.id);
    });

const application = express();
application.use("/scim", new SCIMMYRouters({
    type: "bearer",
    handler: (request) => {
        if (request.header("Authorization") !== `Bearer ${token}`) throw new Error("Not authorized");
        return "bench";
    },
}));
application.listen(Number(port), "127.0.0.1");
