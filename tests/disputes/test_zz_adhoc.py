from tests.disputes.conftest import *
from tests.disputes.test_padding import in_contracts
import tests.disputes.test_soundness as _m
globals().update({k:v for k,v in vars(_m).items() if not k.startswith("__") and not k.startswith("test_") and k!="honest"})
from tests.disputes.test_soundness import told
import pytest
@pytest.mark.parametrize("leaves",[1,2,32,33,64,65,1025])
def test_deep(world, leaves):
    honest=Honest.of(deep_task(leaves,3)); table=in_contracts(world); r=drawing(leaves)
    for e in {0,63,64*leaves-4}:
        w=told(honest,Lie(1,0,e))
        g=table(honest,w[1],Liar(w[0]),honest.challenger); assert g.convicted and g.ending=="judged"
        g=table(honest,honest.execution.run_root,honest.asserter,FalseAccuser(w[0])); assert not g.convicted and g.ending=="judged"
    for n in range(12):
        g=table(honest,w[1],Trickster(w[0],n),honest.challenger); assert g.convicted
        g=table(honest,honest.execution.run_root,honest.asserter,Slanderer(w[0] if n%2 else honest.execution,n)); assert not g.convicted
@pytest.mark.parametrize("make",[lambda: wide_task(132,2),lambda: wide_task(140,70),lambda:every_level_task(70,66),lambda:summing_task(300*512),lambda:summing_task(5*512),lambda:summing_task(4*512)])
def test_wide(world, make):
    honest=Honest.of(make()); table=in_contracts(world)
    lies=drawing(3).sample(edges(honest.task),12)
    for l in lies:
        w=told(honest,l)
        if not w: continue
        g=table(honest,w[1],Liar(w[0]),honest.challenger); assert g.convicted and g.ending=="judged"
        g=table(honest,honest.execution.run_root,honest.asserter,FalseAccuser(w[0])); assert not g.convicted and g.ending=="judged"
        for n in range(3):
            g=table(honest,w[1],Trickster(w[0],n),honest.challenger); assert g.convicted
            g=table(honest,honest.execution.run_root,honest.asserter,Slanderer(w[0] if n%2 else honest.execution,n)); assert not g.convicted
