import { runCampaign } from './campaign.ts';
import { mkdirSync, writeFileSync } from 'node:fs';
const [from=1,to=from,hours=0.05]=process.argv.slice(2).map(Number);
mkdirSync('out/sim',{recursive:true});
let sim=0; const t0=performance.now(); let bad=0;
for(let seed=from;seed<=to;seed++){
  const t=performance.now();
  const o=await runCampaign({seed,hours});
  sim+=o.simulatedMs;
  const wall=performance.now()-t;
  const {transcript,...rest}=o;
  writeFileSync(`out/sim/seed-${seed}.txt`,transcript);
  if(o.violation)bad++;
  console.log(`seed ${seed} nodes ${o.nodes} ${(o.simulatedMs/1000).toFixed(0)}s acks ${o.acknowledged} reads ${o.reads} commits ${o.commits} faults ${o.faults} rate ${(o.simulatedMs/wall).toFixed(0)} ${o.violation?`VIOLATION ${o.violation.checker} at ${o.violation.atMs.toFixed(1)}: ${o.violation.text}`:'ok'}`);
}
console.log({bad, rate: sim/(performance.now()-t0)});
process.exit(bad?1:0);
